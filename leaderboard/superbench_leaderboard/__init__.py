"""The leaderboard wing."""
