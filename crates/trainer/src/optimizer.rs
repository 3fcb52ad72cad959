//! AdamW over a model's parameters, its moments in the order in which the model is visited.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, TensorPrimitive};
use fused_ops::{AdamWStep, FusedOps};
use gptneox_model::GptNeoX;

use crate::{AdamWSpec, Decay};

/// A parameter's two moments, whatever its rank.
pub(crate) struct Moments<B: FusedOps> {
    pub(crate) m: FloatTensor<B>,
    pub(crate) v: FloatTensor<B>,
}

pub(crate) fn zeros<AB>(model: &GptNeoX<AB>) -> Vec<Moments<AB::InnerBackend>>
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    struct Zeros<B: FusedOps>(Vec<Moments<B>>);
    impl<AB: AutodiffBackend<InnerBackend = B>, B: FusedOps> ModuleVisitor<AB> for Zeros<B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
            let zeros = || primitive(param.val().inner().zeros_like());
            self.0.push(Moments { m: zeros(), v: zeros() });
        }
    }
    let mut visit = Zeros(Vec::new());
    model.visit(&mut visit);
    visit.0
}

pub(crate) fn primitive<B: FusedOps, const D: usize>(t: Tensor<B, D>) -> FloatTensor<B> {
    t.into_primitive().tensor()
}

pub(crate) fn float<B: FusedOps, const D: usize>(t: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(t))
}

/// The global norm of all gradients: one read from the device.
pub(crate) fn global_norm<AB>(model: &GptNeoX<AB>, grads: &GradientsParams) -> f64
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    struct Norm<'a, B: FusedOps> {
        grads: &'a GradientsParams,
        sum: Option<Tensor<B, 1>>,
    }
    impl<AB: AutodiffBackend<InnerBackend = B>, B: FusedOps> ModuleVisitor<AB> for Norm<'_, B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
            if let Some(grad) = self.grads.get::<B, D>(param.id) {
                let squares = fused_ops::sum_squares(grad);
                self.sum = Some(match self.sum.take() {
                    Some(sum) => sum + squares,
                    None => squares,
                });
            }
        }
    }
    let mut visit = Norm::<AB::InnerBackend> { grads, sum: None };
    model.visit(&mut visit);
    let sum = visit.sum.map_or(0.0, |sum| burn::tensor::ElementConversion::elem::<f32>(sum.into_scalar()));
    f64::from(sum).sqrt()
}

/// One update of every parameter, and the norm of the whole change: one read from the device.
pub(crate) fn update<AB>(
    model: GptNeoX<AB>,
    grads: GradientsParams,
    moments: &mut Vec<Moments<AB::InnerBackend>>,
    spec: &AdamWSpec,
    step: AdamWStep,
) -> (GptNeoX<AB>, f64)
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    struct Update<'a, B: FusedOps> {
        grads: GradientsParams,
        old: std::vec::IntoIter<Moments<B>>,
        new: Vec<Moments<B>>,
        spec: &'a AdamWSpec,
        step: AdamWStep,
        change: Option<FloatTensor<B>>,
    }
    impl<AB: AutodiffBackend<InnerBackend = B>, B: FusedOps> ModuleMapper<AB> for Update<'_, B> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<AB, D>>) -> Param<Tensor<AB, D>> {
            let (id, tensor, mapper) = param.consume();
            let Moments { m, v } = self.old.next().expect("as many moments as parameters: made from the same model");
            let decays = self.spec.decay == Decay::All || D > 1;
            let step = AdamWStep { weight_decay: if decays { self.step.weight_decay } else { 0.0 }, ..self.step };
            let value = primitive(tensor.inner());
            let (value, moments) = match self.grads.remove::<B, D>(id) {
                Some(grad) => {
                    let new = B::adamw(value, primitive(grad), m, v, step);
                    self.change = Some(match self.change.take() {
                        Some(sum) => B::float_add(sum, new.change),
                        None => new.change,
                    });
                    (new.p, Moments { m: new.m, v: new.v })
                }
                None => (value, Moments { m, v }),
            };
            self.new.push(moments);
            let value = Tensor::from_inner(float::<B, D>(value)).require_grad();
            Param::from_mapped_value(id, value, mapper)
        }
    }
    let old = std::mem::take(moments).into_iter();
    let mut map = Update { grads, old, new: Vec::new(), spec, step, change: None };
    let model = model.map(&mut map);
    *moments = map.new;
    let change = map.change.map_or(0.0, |sum| {
        let sum = float::<AB::InnerBackend, 1>(sum).into_scalar();
        burn::tensor::ElementConversion::elem::<f32>(sum)
    });
    (model, f64::from(change).sqrt())
}

/// A moment's values on the host.
pub(crate) fn to_host<B: FusedOps>(t: &FloatTensor<B>, count: usize) -> Vec<f32> {
    let flat = B::float_reshape(t.clone(), Shape::from([count]));
    float::<B, 1>(flat).into_data().convert::<f32>().into_vec().expect("converted to f32 just above")
}

/// A moment from its values.
pub(crate) fn from_host<B: FusedOps>(values: Vec<f32>, shape: &[usize], device: &B::Device) -> FloatTensor<B> {
    let flat = Tensor::<B, 1>::from_data(burn::tensor::TensorData::new(values.clone(), [values.len()]), device);
    B::float_reshape(primitive(flat), Shape::from(shape.to_vec()))
}
