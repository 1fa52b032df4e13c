"""Judgement: what was published and what was true in, errors out. Who published it is none of its business."""
