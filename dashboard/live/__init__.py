"""The live view: messages of the log in, one tick for all viewers out. Others need `Live`, `Demo`, `TOPICS_SHOWN`."""

from dashboard.live.city import TOPICS_SHOWN
from dashboard.live.feeds import Demo
from dashboard.live.push import Live

__all__ = ["TOPICS_SHOWN", "Demo", "Live"]
