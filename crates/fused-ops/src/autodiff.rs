//! One recorded node an operation, with the inner backend's hand-written backward.

use burn::backend::Autodiff;
use burn::tensor::TensorMetadata as _;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::block::{self, BlockContext, BlockParameters, Kept, Norms, Stream};
use crate::definition::{float, prim};
use crate::{AttentionShape, DeviceMemory, FusedOps, Gelu, KeptAttention, Precision};

/// The ids of the parents that are tracked. (A macro, because burn does not export the nodes' type.)
macro_rules! ids {
    ($parents:expr) => {
        $parents.map(|parent| parent.map(|parent| parent.id))
    };
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linear;
        impl<B: FusedOps> Backward<B, 2> for Linear {
            type State = (NodeId, NodeId, Precision);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (x, w) = (ckpt.retrieve_node_output(ops.state.0), ckpt.retrieve_node_output(ops.state.1));
                let (gx, gw) = B::fused_linear_backward(x, w, g, ops.state.2);
                register::<B, 2>(grads, ids!(ops.parents), [gx, gw]);
            }
        }
        #[derive(Debug)]
        struct LinearBias;
        impl<B: FusedOps> Backward<B, 3> for LinearBias {
            type State = (NodeId, NodeId, Precision);
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (x, w) = (ckpt.retrieve_node_output(ops.state.0), ckpt.retrieve_node_output(ops.state.1));
                let (gx, gw, gb) = B::fused_biased_linear_backward(x, w, g, ops.state.2);
                register::<B, 3>(grads, ids!(ops.parents), [gx, gw, gb]);
            }
        }
        match b {
            None => match Linear.prepare::<C>([x.node.clone(), w.node.clone()]).compute_bound().stateful() {
                OpsKind::Tracked(mut prep) => {
                    let state = (prep.checkpoint(&x), prep.checkpoint(&w), precision);
                    prep.finish(state, B::fused_linear(x.primitive, w.primitive, None, precision))
                }
                OpsKind::UnTracked(prep) => prep.finish(B::fused_linear(x.primitive, w.primitive, None, precision)),
            },
            Some(b) => {
                let nodes = [x.node.clone(), w.node.clone(), b.node.clone()];
                match LinearBias.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(mut prep) => {
                        let state = (prep.checkpoint(&x), prep.checkpoint(&w), precision);
                        prep.finish(state, B::fused_linear(x.primitive, w.primitive, Some(b.primitive), precision))
                    }
                    OpsKind::UnTracked(prep) => {
                        prep.finish(B::fused_linear(x.primitive, w.primitive, Some(b.primitive), precision))
                    }
                }
            }
        }
    }

    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 1> for Node {
            type State = (NodeId, Gelu);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let x = ckpt.retrieve_node_output(ops.state.0);
                register::<B, 1>(grads, ids!(ops.parents), [B::fused_gelu_backward(x, g, ops.state.1)]);
            }
        }
        match Node.prepare::<C>([x.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), kind);
                prep.finish(state, B::fused_gelu(x.primitive, kind))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_gelu(x.primitive, kind)),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
        precision: Precision,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 3> for Node {
            type State = (NodeId, NodeId, f64);
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (x, gamma) = (ckpt.retrieve_node_output(ops.state.0), ckpt.retrieve_node_output(ops.state.1));
                let (gx, ggamma, gbeta) = B::fused_layer_norm_backward(x, gamma, g, ops.state.2);
                register::<B, 3>(grads, ids!(ops.parents), [gx, ggamma, gbeta]);
            }
        }
        let nodes = [x.node.clone(), gamma.node.clone(), beta.node.clone()];
        match Node.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&gamma), eps);
                prep.finish(state, B::fused_layer_norm(x.primitive, gamma.primitive, beta.primitive, eps, precision))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::fused_layer_norm(x.primitive, gamma.primitive, beta.primitive, eps, precision))
            }
        }
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        shape: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 1> for Node {
            type State = (
                NodeId,
                FloatTensor<B>,
                FloatTensor<B>,
                Option<IntTensor<B>>,
                Option<KeptAttention<FloatTensor<B>>>,
                AttentionShape,
                Precision,
            );
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (qkv, cos, sin, starts, kept, shape, precision) = ops.state;
                let qkv = ckpt.retrieve_node_output(qkv);
                let gx = B::causal_attention_backward(qkv, cos, sin, starts, kept, g, shape, precision);
                register::<B, 1>(grads, ids!(ops.parents), [gx]);
            }
        }
        let (cos, sin) = (cos.primitive, sin.primitive);
        match Node.prepare::<C>([qkv.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let id = prep.checkpoint(&qkv);
                let (c, s, t) = (cos.clone(), sin.clone(), starts.clone());
                let (out, kept) = B::causal_attention_keeping(qkv.primitive, c, s, t, shape, precision);
                prep.finish((id, cos, sin, starts, kept, shape, precision), out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::causal_attention(qkv.primitive, cos, sin, starts, shape, precision))
            }
        }
    }

    fn transformer_block(
        stream: Stream<FloatTensor<Self>>,
        parameters: BlockParameters<FloatTensor<Self>>,
        next: Option<Norms<FloatTensor<Self>>>,
        context: BlockContext<Self>,
        recompute: bool,
    ) -> Stream<FloatTensor<Self>> {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 13> for Node {
            /// Without anything kept the forward pass is run again.
            type State = (NodeId, [NodeId; 12], Option<Kept<B>>, BlockContext<B>);
            fn backward(self, ops: Ops<Self::State, 13>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (x, parameters, kept, context) = ops.state;
                let x = ckpt.retrieve_node_output::<FloatTensor<B>>(x);
                let parameters =
                    BlockParameters::from_array(parameters.map(|id| ckpt.retrieve_node_output::<FloatTensor<B>>(id)));
                let again = || block::forward_keeping::<B>(Stream::new(x.clone()), &parameters, None, &context).1;
                let kept = kept.unwrap_or_else(again);
                let (gx, gp) = block::backward::<B>(x, &parameters, &context, kept, g);
                let [a, b, c, d, e, f, h, i, j, k, l, m] = gp.into_array();
                register::<B, 13>(grads, ids!(ops.parents), [gx, a, b, c, d, e, f, h, i, j, k, l, m]);
            }
        }
        let context = BlockContext::<B> {
            cos: context.cos.primitive,
            sin: context.sin.primitive,
            starts: context.starts,
            settings: context.settings,
        };
        // Norms made for the next block are constants here: that block's node differentiates them, from x.
        let constant = |t| <Self as burn::tensor::backend::AutodiffBackend>::from_inner(t);
        let next = next.map(|norms| norms.map(|affine| affine.map(|t| t.primitive)));
        let x = stream.x().clone();
        let stream = stream.map(|x| x.primitive, |normed| normed.primitive);
        let parameters = parameters.into_array();
        let nodes = std::array::from_fn(|i| if i == 0 { x.node.clone() } else { parameters[i - 1].node.clone() });
        let inner = |parameters: [FloatTensor<Self>; 12]| BlockParameters::from_array(parameters.map(|p| p.primitive));
        match Node.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let x_id = prep.checkpoint(&x);
                let ids = std::array::from_fn(|i| prep.checkpoint(&parameters[i]));
                let parameters = inner(parameters);
                let (out, kept) = if recompute {
                    (block::forward::<B>(stream, &parameters, next, &context, true), None)
                } else {
                    let (out, kept) = block::forward_keeping::<B>(stream, &parameters, next, &context);
                    (out, Some(kept))
                };
                out.map(|out| prep.finish((x_id, ids, kept, context), out), constant)
            }
            OpsKind::UnTracked(prep) => {
                drop(x);
                let out = block::forward::<B>(stream, &inner(parameters), None, &context, false);
                out.map(|out| prep.finish(out), constant)
            }
        }
    }

    fn device_memory(device: &Self::Device) -> Option<DeviceMemory> {
        B::device_memory(device)
    }

    fn fused_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 1> for Node {
            type State = (IntTensor<B>, usize);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (ids, rows) = ops.state;
                register::<B, 1>(grads, ids!(ops.parents), [B::fused_embedding_backward(ids, g, rows)]);
            }
        }
        let rows = table.primitive.shape()[0];
        match Node.prepare::<C>([table.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((ids.clone(), rows), B::fused_embedding(table.primitive, ids)),
            OpsKind::UnTracked(prep) => prep.finish(B::fused_embedding(table.primitive, ids)),
        }
    }

    fn head_loss(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 2> for Node {
            // The gradients are known once the losses are: the backward only scales them.
            type State = (FloatTensor<B>, FloatTensor<B>);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (gx, gw) = ops.state;
                register::<B, 2>(grads, ids!(ops.parents), [B::scale_by(gx, g.clone()), B::scale_by(gw, g)]);
            }
        }
        let sum = |losses: &FloatTensor<B>| {
            let losses = float::<B, 1>(losses.clone());
            prim(losses.sum() * scale)
        };
        let constant = |losses: FloatTensor<B>| <Self as burn::tensor::backend::AutodiffBackend>::from_inner(losses);
        match Node.prepare::<C>([x.node.clone(), w.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (losses, gx, gw) =
                    B::token_losses_and_gradients(x.primitive, w.primitive, targets, scale, precision);
                (prep.finish((gx, gw), sum(&losses)), constant(losses))
            }
            OpsKind::UnTracked(prep) => {
                let losses = B::token_losses(x.primitive, w.primitive, targets, precision);
                (prep.finish(sum(&losses)), constant(losses))
            }
        }
    }
}

/// Registers each gradient with the parent that wants one.
fn register<B: FusedOps, const N: usize>(
    grads: &mut Gradients,
    parents: [Option<NodeId>; N],
    values: [FloatTensor<B>; N],
) {
    for (parent, value) in parents.into_iter().zip(values) {
        if let Some(parent) = parent {
            grads.register::<B>(parent, value);
        }
    }
}
