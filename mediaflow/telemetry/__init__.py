"""What a program tells of itself: log lines and metrics. No policy lives here."""
