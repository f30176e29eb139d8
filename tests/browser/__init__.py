"""Looking at pages with a real browser."""
