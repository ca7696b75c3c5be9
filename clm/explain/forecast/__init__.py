"""Where a run will end: its final loss, from its curve so far and the learning rates still to come."""

from clm.explain.forecast.ahead import LEVEL, NORMAL_QUANTILE, PLATEAU, Forecast, forecast
from clm.explain.forecast.facts import Facts
from clm.explain.forecast.law import Law
from clm.explain.forecast.prior import Knowledge, knowledge

__all__ = ["LEVEL", "NORMAL_QUANTILE", "PLATEAU", "Facts", "Forecast", "Knowledge", "Law", "forecast", "knowledge"]
