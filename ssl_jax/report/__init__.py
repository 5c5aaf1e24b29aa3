"""Results into tables, figures and pages; it never trains."""
