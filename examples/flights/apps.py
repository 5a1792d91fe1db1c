"""Each group as a Faust app: `faust -A examples.flights.apps:delays worker --without-web`."""

from examples.flights.pipeline import pipeline
from penstock.deploy import faust_app

delays = faust_app(pipeline, "delays")
fleet = faust_app(pipeline, "fleet")
routes = faust_app(pipeline, "routes")
busiest = faust_app(pipeline, "busiest")
archive = faust_app(pipeline, "archive")
