"""What each concern adds to a request, ours and the peers', in one run."""
