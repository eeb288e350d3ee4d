"""What a search wants: objectives, limits, and comparing by several at once."""
