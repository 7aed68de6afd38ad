"""Pictures for people: panels of samples, overlays, curves, the sheet of a judgement."""
