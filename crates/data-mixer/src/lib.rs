//! Which sequence fills which slot of which batch: mixtures, budgets, fine-tuning batches, ledger.
