"""The data doctor: what is in a folder set (`survey`), what is wrong with it (`problems`), and what to train on it."""
