"""What goes over the wire: closed, exact, with examples."""
