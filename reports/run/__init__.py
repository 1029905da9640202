"""What a run is: its records, how it is read, and what is computed of its rows alone. Free of figures and of torch."""
