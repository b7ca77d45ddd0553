"""The steps of the funnel, one file or folder each: a pure function of documents, with no word of where they lie."""
