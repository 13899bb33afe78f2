"""What was committed, in tables: followed block by block, asked page by page."""
