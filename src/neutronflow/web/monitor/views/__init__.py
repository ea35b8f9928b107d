"""The monitor's views: pages, fragments, events, the API."""
