"""Maps and tables in, road networks out; nothing here runs while traffic is measured."""
