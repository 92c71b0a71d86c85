"""Every release of a subject's data and every refusal, and the fetch itself."""
