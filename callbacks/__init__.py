"""Lightning callbacks: they write products, pictures, journals and signals of a run."""
