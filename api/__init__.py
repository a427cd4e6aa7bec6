"""What people and programs talk to: HTTP, command line and page."""
