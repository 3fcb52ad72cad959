//! Looking at hidden states while a forward pass runs, without keeping them all.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Where a hidden state was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// The embedding.
    Embed,
    /// The raw output of this block, from 0.
    Block(usize),
    /// After the final LayerNorm.
    FinalNorm,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embed => f.write_str("embed"),
            Self::Block(i) => write!(f, "block.{i}"),
            Self::FinalNorm => f.write_str("final_norm"),
        }
    }
}

/// Receives each hidden state `[B·T, C]` as it is computed. `()` ignores them; a closure works too.
pub trait Observer<B: Backend> {
    /// Called once a site, in order: embed, block.0 …, final_norm.
    fn observe(&mut self, site: Site, hidden: &Tensor<B, 2>);
}

impl<B: Backend> Observer<B> for () {
    fn observe(&mut self, _: Site, _: &Tensor<B, 2>) {}
}

impl<B: Backend, F: FnMut(Site, &Tensor<B, 2>)> Observer<B> for F {
    fn observe(&mut self, site: Site, hidden: &Tensor<B, 2>) {
        self(site, hidden);
    }
}
