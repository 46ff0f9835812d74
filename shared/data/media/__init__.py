"""Media files decoded: FFmpeg's libraries through PyAV, and Pillow. Trainers import what they need of it."""
