"""What a person does with Headrace, one verb a file: the command line is a thin skin over these."""
