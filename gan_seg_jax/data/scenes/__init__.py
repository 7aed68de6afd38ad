"""The embedded street scenes: `builder` prepares them, the other files draw them; `domains` are day, night and rain."""
