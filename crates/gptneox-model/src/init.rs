//! Weights from a seed: the same on every backend and machine, each parameter from its own stream.

use fused_ops::FusedOps;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::{Error, GptNeoX, GptNeoXConfig};

impl<B: FusedOps> GptNeoX<B> {
    /// Pythia's initialisation (GPT-NeoX `small_init` and `wang_init`): matrices N(0, 2/(5C)), those that write into
    /// the residual stream N(0, (2/(L·√C))²), biases 0, LayerNorm weights 1.
    ///
    /// # Errors
    /// A config outside its limits.
    pub fn init(config: &GptNeoXConfig, seed: u64, device: &B::Device) -> Result<Self, Error> {
        let c = config.hidden_size as f64;
        let small = (2.0 / (5.0 * c)).sqrt();
        let output = 2.0 / (config.num_layers.max(1) as f64 * c.sqrt());
        Self::from_parameters(config, device, |name, shape| {
            let count = shape.iter().product();
            if name.ends_with("bias") {
                return Ok(vec![0.0; count]);
            }
            if shape.len() == 1 {
                return Ok(vec![1.0; count]);
            }
            let sd = if name.ends_with("attention.dense.weight") || name.ends_with("dense_4h_to_h.weight") {
                output
            } else {
                small
            };
            let normal = Normal::new(0.0, sd).expect("the standard deviation is finite: C and L are at least 1");
            let mut rng = ChaCha8Rng::seed_from_u64(xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), seed));
            Ok((0..count).map(|_| normal.sample(&mut rng) as f32).collect())
        })
    }
}
