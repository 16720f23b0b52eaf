"""What several backends share on any device."""
