"""Prose of the report: what its sections say, what every figure means, and where its definition comes from."""

HAPPENED = """
The truth alone, all vehicles on all segments.
"""
SEGMENTS = """
What was published of each segment against what happened on it: all vehicles on its whole length, which a
detector at one place does not see. Values are compared where both are known.
"""
JOINT = """
Segment panes where the segment's own detectors reported, stronger where there are more of them (logarithmic).
Above the line the published speed is too high.
"""
INDICES = """
Indices come from summed vehicle-hours. Truth counts every segment; the published one only what is observed. The
dashed line is the truth on the segments that were observed: what lies between it and the published line is
error of measurement, what lies between it and the truth is what no detector saw.
"""
DISTRICTS = """
By traffic, the busiest first; lines are cut at the top.
"""
EVENTS = """
A bar is the incident, the thin one its queue until it was gone, the mark its alert. The number is how far its
queue reached at most.
"""
FORECASTS = """
Speeds ahead against true speeds, beside two simpler forecasts: that the last published speed stays, and that it
will be as usual.
"""
DETECTORS = """
Detectors as they truly were. Where what a faulty detector says is left out nothing wrong is published; where it is
not, the bias is what it does to its segment.
"""
NO_VERDICTS = """
What was judged does not say which detectors the platform believes, so there are no faults found or missed.
"""
CLOSES_WHEN = """
what a reading covers and is under way, and the reorder allowance.
"""
NO_CLOSING = """
What was judged does not say when it was published, so it is not known when a pane was closed.
"""
CLOSING = """
Nobody watched this run live: how long processing, storing and drawing take on top is not in it and is measured by
<code>python -m benchmarks latency</code>, with its figures in docs/performance.md. A screen shows provisional values
of the minute that is still open before it is closed.
"""
NETWORK = """
The truth alone. The fundamental diagram of the network: vehicles on the road against the vehicle-kilometres
they drive an hour. It rises, flattens where roads are full, and falls where queues block them; where production
is higher on the way up than on the way down, jams dissolve from their edges.
"""
DEFINITIONS = """
<dl>
<dt>Truth</dt><dd>Speed, flow, density: total distance and total time of all vehicles on the whole segment in
the minute (Edie 1963, Discussion of traffic stream measurements and definitions, 2nd ISTTT). Travel time: what
those needed who left the segment in the minute, so that it tells of a queue later than the speed does; over
quarter-hours length over mean speed. Delay: time lost in the minute against free flow.</dd>
<dt>Bias, MAE, RMSE</dt><dd>Mean error, published less true; mean absolute error; root mean square error
(Hyndman and Koehler 2006, Int. J. of Forecasting 22(4)).</dd>
<dt>MAPE</dt><dd>Mean absolute error as a share of the truth, where the truth is at least 1 km/h, 120 veh/h, 0.1
s or 0.05 veh h.</dd>
<dt>Within bounds</dt><dd>Speed off by at most 10 % or 5 km/h [judgement]; flow with GEH = sqrt(2 (p -
t)<sup>2</sup> / (p + t)) below 5 and travel time within 15 % (UK TAG unit M3.1, tables 2 and 3); delay within
20 % or 0.05 veh h [judgement].</dd>
<dt>Traffic</dt><dd>By true speed over free-flow speed: free above 70 %, dense above 50 %, jam to 50 % (GB/T
33171-2016, levels 1, 2 and 3 to 5). Groups by the truth show errors towards the middle: what is truly a jam can
only be published as faster.</dd>
<dt>Coverage</dt><dd>Share of the lanes and time of a segment's detectors that reported; all the time from 95
%.</dd>
<dt>TTI, DTP, TPI</dt><dd>Travel time index, vehicle-hours over vehicle-hours at free flow, at least 1; delay
time proportion 1 - 1/TTI; traffic performance index 0 to 10 from the DTP (GB/T 33171-2016, appendix C; straight
lines inside its bands are this project's).</dd>
<dt>Incident found</dt><dd>By the first alert that opens while it or its queue lasts, or 10 minutes later, on
its segment, one beside it or one its queue stood on; each alert finds one. Felt is one whose queue reached 100
m. False is an incident alert that finds none, and one of congestion if nothing was at level 3 or worse on its
segments within 5 minutes. Minutes to find are from the onset to the end of the pane that decided (Martin,
Perrin and Hansen 2001, Incident detection algorithm evaluation).</dd>
<dt>Fault found</dt><dd>By the first verdict on its detector that holds while it lasts, whatever the verdict says;
minutes count from the fault's onset, of one that was there before from the run's begin. A verdict is wrong if its
detector has no fault while it holds and had none in the hour before.</dd>
<dt>Forecast</dt><dd>Made on full 5 minutes, compared with the true speed in the pane that ends at the horizon,
where all three ways say something. 10 to 90 %: share of truths between those quantiles; it should be 80 %.</dd>
<dt>Brier, skill</dt><dd>Mean of (p - o)<sup>2</sup> (Brier 1950); 1 - Brier / (r (1 - r)) with r the share that
came (Murphy 1973). Error of calibration: mean distance of what was said from what came in tenths of
probability, by their number. Reliability diagrams: Wilks 2011, 8.4.4.</dd>
<dt>Fundamental diagram of the network</dt><dd>Vehicles on the road against vehicle-kilometres an hour, by
minutes (Geroliminis and Daganzo 2008, Transportation Research B 42(9)).</dd>
</dl>
"""
