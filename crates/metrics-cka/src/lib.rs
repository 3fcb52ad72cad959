//! Linear CKA between layers and models.
