//! Products on a burn device.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::Products;

/// Computes aᵀ·b: a `[N, M]`, b `[N, K]` → `[M, K]`.
pub type TransposedProduct<B> = fn(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2>;

/// Products on a burn device. Each factor is split in two parts of few bits, whose products are exact in the reduced
/// precision (TF32) that GPUs may use for f32.
#[derive(Debug, Clone)]
pub struct Device<B: Backend> {
    device: B::Device,
    product: TransposedProduct<B>,
}

impl<B: Backend> Device<B> {
    /// On this device, by burn's products.
    pub fn new(device: B::Device) -> Self {
        Self::with_product(device, |a, b| a.transpose().matmul(b))
    }

    /// On this device, by a product of f32 matrices that the caller knows to be a better one.
    pub fn with_product(device: B::Device, product: TransposedProduct<B>) -> Self {
        Self { device, product }
    }
}

/// The upper 8 bits of the mantissa, and what is left: x = high + low exactly.
fn split(values: &[f32]) -> (Vec<f32>, Vec<f32>) {
    values
        .iter()
        .map(|x| {
            let high = f32::from_bits(x.to_bits() & 0xffff_0000);
            (high, x - high)
        })
        .unzip()
}

impl<B: Backend> Products<f32> for Device<B> {
    fn add(&self, layers: &[(&[f32], usize)], pairs: &[(usize, usize)], sums: &mut [&mut [f64]]) {
        let up = |values: Vec<f32>, width: usize| {
            let rows = values.len() / width;
            Tensor::<B, 2>::from_data(TensorData::new(values, [rows, width]), &self.device)
        };
        let parts: Vec<_> = layers
            .iter()
            .map(|(values, width)| {
                let (high, low) = split(values);
                (up(high, *width), up(low, *width))
            })
            .collect();
        for ((a, b), sum) in pairs.iter().zip(sums) {
            let ((x, dx), (y, dy)) = (&parts[*a], &parts[*b]);
            // What is left out, low·low, is below 2⁻¹⁶ of the product, and random.
            let product = |a: &Tensor<B, 2>, b: &Tensor<B, 2>| (self.product)(a.clone(), b.clone());
            let all = product(x, y) + (product(x, dy) + product(dx, y)) + product(dx, dy);
            let all = all.into_data().convert::<f32>();
            let all: Vec<f32> = all.into_vec().expect("converted to f32 just above");
            sum.iter_mut().zip(all).for_each(|(s, p)| *s += f64::from(p));
        }
    }
}

#[cfg(test)]
mod tests {
    use fused_ops::backends::Flex;

    use super::*;
    use crate::Host;

    #[test]
    fn a_device_adds_what_the_host_adds() {
        let values: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32).sin()).collect();
        let other: Vec<f32> = (0..40).map(|i| ((i * 17 % 19) as f32).cos()).collect();
        let layers: [(&[f32], usize); 2] = [(&values, 3), (&other, 2)];
        let run = |products: &dyn Products<f32>| {
            let (mut cross, mut own) = (vec![1.0; 6], vec![0.0; 9]);
            products.add(&layers, &[(0, 1), (0, 0)], &mut [&mut cross, &mut own]);
            (cross, own)
        };
        let (host, device) = (run(&Host), run(&Device::<Flex>::new(Default::default())));
        host.0.iter().zip(&device.0).for_each(|(a, b)| assert!((a - b).abs() < 1e-5));
        host.1.iter().zip(&device.1).for_each(|(a, b)| assert!((a - b).abs() < 1e-5));
        assert!((host.0[0] - 1.0 - (0..20).map(|r| f64::from(values[r * 3] * other[r * 2])).sum::<f64>()).abs() < 1e-5);
        let (high, low) = split(&[1.000_001, -3.7e-5]);
        assert_eq!((high[0] + low[0], high[1] + low[1]), (1.000_001, -3.7e-5));
    }
}
