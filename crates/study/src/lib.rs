//! Plans a midtraining study, runs it once and resumably, renders its tables, figures and report.
