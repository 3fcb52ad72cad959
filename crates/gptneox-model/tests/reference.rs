//! Against Hugging Face's numbers, on every CPU backend: this project's fixtures always, the larger ones where
//! MIDTRAIN_SHARED is set. (The conformance example compares more, on the backend it was built for.)
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::FusedOps;
use fused_ops::backends::{Flex, NdArray};
use gptneox_model::{export_gradients, load_pretrained};
use safetensors::SafeTensors;

fn models() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/reference/models");
    let mut dirs = vec![own.join("parallel"), own.join("sequential")];
    match std::env::var_os("MIDTRAIN_SHARED") {
        Some(shared) => {
            let shared = PathBuf::from(shared).join("reference/models");
            dirs.extend(["a", "b", "c", "d", "e"].map(|name| shared.join(name)));
        }
        None => eprintln!("skipped: the larger fixtures (MIDTRAIN_SHARED is not set)"),
    }
    dirs
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, e| if e > m || e.is_nan() { e } else { m })
}

fn check<B: FusedOps>() {
    for dir in models() {
        let device = Default::default();
        let model = load_pretrained::<Autodiff<B>>(&dir, &device).unwrap();
        let bytes = std::fs::read(dir.join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let view = expected.tensor("input_ids").unwrap();
        let shape = [view.shape()[0], view.shape()[1]];
        let [b, t] = shape;
        let ids: Vec<i64> = view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
        let targets = (0..b * t).map(|i| if i % t == t - 1 { -1 } else { ids[i + 1] }).collect::<Vec<i64>>();
        let tensor = |v: Vec<i64>| Tensor::<Autodiff<B>, 2, Int>::from_data(TensorData::new(v, shape), &device);
        let logits = model.logits(tensor(ids.clone())).into_data().to_vec::<f32>().unwrap();
        let error = worst(&logits, &f32s(&expected, "logits"));
        assert!(error <= 5e-5, "{}: logits off by {error}", dir.display());
        let loss = model.loss(tensor(ids), tensor(targets), 1.0 / (b * (t - 1)) as f64);
        let grads = GradientsParams::from_grads(loss.scaled_sum.backward(), &model);
        let grads = export_gradients(&model, &grads);
        assert_eq!(grads.len(), expected.names().iter().filter(|n| n.starts_with("grad.")).count());
        for grad in grads {
            let truth = f32s(&expected, &format!("grad.{}", grad.name));
            let largest = truth.iter().fold(0f32, |a, v| a.max(v.abs()));
            let error = worst(&grad.values, &truth);
            assert!(error <= 2e-5 * largest + 1e-7, "{}: {} off by {error}", dir.display(), grad.name);
        }
    }
}

#[test]
fn flex_equals_hugging_face() {
    check::<Flex>();
}

#[test]
fn ndarray_equals_hugging_face() {
    check::<NdArray>();
}
