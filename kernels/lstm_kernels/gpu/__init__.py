"""What several backends share on a GPU: launching, machine code."""
