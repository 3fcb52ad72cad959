//! Against Hugging Face's numbers, on every CPU backend. Needs MIDTRAIN_SHARED; says so when it is unset.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::FusedOps;
use fused_ops::backends::{Flex, NdArray};
use gptneox_model::load_pretrained;
use safetensors::SafeTensors;

fn models() -> Option<PathBuf> {
    let Some(shared) = std::env::var_os("MIDTRAIN_SHARED") else {
        eprintln!("skipped: MIDTRAIN_SHARED is not set");
        return None;
    };
    Some(PathBuf::from(shared).join("reference/models"))
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn check<B: FusedOps>(backend: &str) {
    let Some(dir) = models() else { return };
    for name in ["a", "b", "c", "d", "e"] {
        let device = Default::default();
        let model = load_pretrained::<burn::backend::Autodiff<B>>(&dir.join(name), &device).unwrap();
        let bytes = std::fs::read(dir.join(name).join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let view = expected.tensor("input_ids").unwrap();
        let (b, t) = (view.shape()[0], view.shape()[1]);
        let ids: Vec<i64> = view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
        let input =
            Tensor::<burn::backend::Autodiff<B>, 2, Int>::from_data(TensorData::new(ids.clone(), [b, t]), &device);
        let logits = model.logits(input.clone()).into_data().to_vec::<f32>().unwrap();
        let worst = f32s(&expected, "logits").iter().zip(&logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 5e-5, "{backend} {name}: logits off by {worst}");
        let targets: Vec<i64> = (0..b * t).map(|i| if i % t == t - 1 { -1 } else { ids[i + 1] }).collect();
        let targets = Tensor::from_data(TensorData::new(targets, [b, t]), &device);
        let loss = model.loss(input, targets, 1.0 / (b * (t - 1)) as f64);
        let grads = GradientsParams::from_grads(loss.scaled_sum.backward(), &model);
        struct Visit<'a, 'b> {
            path: Vec<String>,
            grads: &'a GradientsParams,
            file: &'a SafeTensors<'b>,
            label: String,
        }
        impl<B: FusedOps> ModuleVisitor<burn::backend::Autodiff<B>> for Visit<'_, '_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<burn::backend::Autodiff<B>, D>>) {
                let name = self.path.join(".");
                let grad = self.grads.get::<B, D>(param.id).unwrap().into_data().to_vec::<f32>().unwrap();
                let truth = f32s(self.file, &format!("grad.{name}"));
                let largest = truth.iter().fold(0f32, |a, v| a.max(v.abs()));
                let worst = truth.iter().zip(&grad).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 2e-5 * largest + 1e-7, "{} {name}: {worst} of {largest}", self.label);
            }
        }
        model.visit(&mut Visit { path: vec![], grads: &grads, file: &expected, label: format!("{backend} {name}") });
        let _ = model.valid();
    }
}

#[test]
fn flex_equals_hugging_face() {
    check::<Flex>("flex");
}

#[test]
fn ndarray_equals_hugging_face() {
    check::<NdArray>("ndarray");
}
