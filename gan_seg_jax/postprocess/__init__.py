"""What is done to predictions after the network: the fully connected CRF (`crf`) and clean-up (`morphology`)."""
