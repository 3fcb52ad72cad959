//! AdamW over a model's parameters, its moments in the order in which the model is visited.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, TensorPrimitive};
use fused_ops::{AdamWStep, FusedOps, Slot, TrainingBackend, Updated};
use gptneox_model::GptNeoX;

use crate::spec::Rule;

/// A parameter's two moments, whatever its rank.
pub(crate) struct Moments<B: FusedOps> {
    pub(crate) m: FloatTensor<B>,
    pub(crate) v: FloatTensor<B>,
}

pub(crate) fn zeros<AB: TrainingBackend>(model: &GptNeoX<AB>) -> Vec<Moments<AB::InnerBackend>> {
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

/// What an update tells, on the device, `[1]` each.
pub(crate) struct Told<B: FusedOps> {
    /// The square of the gradients' global norm.
    pub(crate) squares: Tensor<B, 1>,
    /// The factor that clipped them; not a number where the update was left out.
    pub(crate) factor: Tensor<B, 1>,
    /// The square of the norm of the whole change.
    pub(crate) change: Tensor<B, 1>,
}

/// One update of every parameter, its gradients clipped to a global norm of `clip`. Where the norm or `loss` is not finite
/// nothing changes. Nothing is read from the device.
///
/// 1. The model's parameters are taken out of it, so that nobody else holds them and they can be written in place.
/// 2. Norm, factor and update of all of them.
/// 3. The new ones are put back.
pub(crate) fn update<AB: TrainingBackend>(
    model: GptNeoX<AB>,
    grads: GradientsParams,
    moments: &mut Vec<Moments<AB::InnerBackend>>,
    rules: &[Rule],
    (loss, clip): (Tensor<AB::InnerBackend, 1>, f64),
    step: AdamWStep,
) -> (GptNeoX<AB>, Told<AB::InnerBackend>) {
    let device = loss.device();
    let old = std::mem::take(moments).into_iter();
    let mut take = Take { grads, old, rules: rules.iter(), taken: Vec::new() };
    let model = model.map(&mut take);
    let (mut slots, mut still) = (Vec::new(), Vec::new());
    for taken in take.taken {
        match taken {
            Ok(slot) => {
                slots.push(slot);
                still.push(None);
            }
            Err(moments) => still.push(Some(moments)),
        }
    }
    let gradients = slots.iter().map(|slot| slot.g.clone()).collect();
    let squares = AB::InnerBackend::sum_squares(gradients, &device);
    let factor = AB::InnerBackend::clip_factor(squares.clone(), primitive(loss), clip);
    let (new, change) = AB::InnerBackend::adamw(slots, factor.clone(), step);
    let mut new = new.into_iter();
    let mut values = Vec::new();
    for still in still {
        match still {
            Some(moments_before) => {
                moments.push(moments_before);
                values.push(None);
            }
            None => {
                let Updated { p, m, v } = new.next().expect("as many updated parameters as slots");
                moments.push(Moments { m, v });
                values.push(Some(p));
            }
        }
    }
    let model = model.map(&mut PutBack(values.into_iter()));
    let [squares, factor, change] = [squares, factor, change].map(float);
    (model, Told { squares, factor, change })
}

/// Takes each parameter that has a gradient out of a model.
struct Take<'a, B: FusedOps> {
    grads: GradientsParams,
    old: std::vec::IntoIter<Moments<B>>,
    rules: std::slice::Iter<'a, Rule>,
    /// In the order of the parameters; the moments alone of one without a gradient.
    taken: Vec<Result<Slot<FloatTensor<B>>, Moments<B>>>,
}

impl<AB: AutodiffBackend<InnerBackend = B>, B: FusedOps> ModuleMapper<AB> for Take<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<AB, D>>) -> Param<Tensor<AB, D>> {
        let (id, tensor, mapper) = param.consume();
        let Moments { m, v } = self.old.next().expect("as many moments as parameters: made from the same model");
        let Rule { weight_decay, lr_ratio } =
            *self.rules.next().expect("a rule for each parameter: made from the same model");
        let Some(grad) = self.grads.remove::<B, D>(id) else {
            self.taken.push(Err(Moments { m, v }));
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let left = Tensor::empty([1; D], &tensor.device());
        let slot = Slot { p: primitive(tensor.inner()), g: primitive(grad), m, v, weight_decay, lr_ratio };
        self.taken.push(Ok(slot));
        Param::from_mapped_value(id, left, mapper)
    }
}

/// Puts parameters in their places again, where there is one.
struct PutBack<B: FusedOps>(std::vec::IntoIter<Option<FloatTensor<B>>>);

impl<AB: AutodiffBackend<InnerBackend = B>, B: FusedOps> ModuleMapper<AB> for PutBack<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<AB, D>>) -> Param<Tensor<AB, D>> {
        let (id, tensor, mapper) = param.consume();
        let value = match self.0.next().expect("as many values as parameters") {
            Some(value) => Tensor::from_inner(float::<B, D>(value)).require_grad(),
            None => tensor,
        };
        Param::from_mapped_value(id, value, mapper)
    }
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
