"""SUMO as a feed: a simulation that is driven, or the files that one wrote, in; readings out."""
