//! Held-out losses before and after, forgetting, and the statistics over seeds.
