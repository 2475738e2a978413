"""Review: a person looks at generated captions before anything is trained on them."""
