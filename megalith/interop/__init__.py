"""Models of other programs: Hugging Face directories and GGUF files, read into an artifact and written from one."""
