//! One recorded node an operation, with the inner backend's hand-written backward.

use burn::backend::Autodiff;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::{AttentionShape, FusedOps, Gelu};

/// The ids of the parents that are tracked. (A macro, because burn does not export the nodes' type.)
macro_rules! ids {
    ($parents:expr) => {
        $parents.map(|parent| parent.map(|parent| parent.id))
    };
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linear;
        impl<B: FusedOps> Backward<B, 2> for Linear {
            type State = (NodeId, NodeId);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (x, w) = (ckpt.retrieve_node_output(ops.state.0), ckpt.retrieve_node_output(ops.state.1));
                let (gx, gw, _) = B::fused_linear_backward(x, w, g);
                register::<B, 2>(grads, ids!(ops.parents), [gx, gw]);
            }
        }
        #[derive(Debug)]
        struct LinearBias;
        impl<B: FusedOps> Backward<B, 3> for LinearBias {
            type State = (NodeId, NodeId);
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (x, w) = (ckpt.retrieve_node_output(ops.state.0), ckpt.retrieve_node_output(ops.state.1));
                let (gx, gw, gb) = B::fused_linear_backward(x, w, g);
                register::<B, 3>(grads, ids!(ops.parents), [gx, gw, gb]);
            }
        }
        match b {
            None => match Linear.prepare::<C>([x.node.clone(), w.node.clone()]).compute_bound().stateful() {
                OpsKind::Tracked(mut prep) => {
                    let state = (prep.checkpoint(&x), prep.checkpoint(&w));
                    prep.finish(state, B::fused_linear(x.primitive, w.primitive, None))
                }
                OpsKind::UnTracked(prep) => prep.finish(B::fused_linear(x.primitive, w.primitive, None)),
            },
            Some(b) => {
                let nodes = [x.node.clone(), w.node.clone(), b.node.clone()];
                match LinearBias.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(mut prep) => {
                        let state = (prep.checkpoint(&x), prep.checkpoint(&w));
                        prep.finish(state, B::fused_linear(x.primitive, w.primitive, Some(b.primitive)))
                    }
                    OpsKind::UnTracked(prep) => {
                        prep.finish(B::fused_linear(x.primitive, w.primitive, Some(b.primitive)))
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
                prep.finish(state, B::fused_layer_norm(x.primitive, gamma.primitive, beta.primitive, eps))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::fused_layer_norm(x.primitive, gamma.primitive, beta.primitive, eps))
            }
        }
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Node;
        impl<B: FusedOps> Backward<B, 1> for Node {
            type State = (NodeId, FloatTensor<B>, FloatTensor<B>, AttentionShape);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, ckpt: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (qkv, cos, sin, shape) = ops.state;
                let qkv = ckpt.retrieve_node_output(qkv);
                register::<B, 1>(grads, ids!(ops.parents), [B::causal_attention_backward(qkv, cos, sin, g, shape)]);
            }
        }
        let (cos, sin) = (cos.primitive, sin.primitive);
        match Node.prepare::<C>([qkv.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&qkv), cos.clone(), sin.clone(), shape);
                prep.finish(state, B::causal_attention(qkv.primitive, cos, sin, shape))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::causal_attention(qkv.primitive, cos, sin, shape)),
        }
    }

    fn head_loss(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
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
            let losses = crate::ops::float::<B, 1>(losses.clone());
            crate::ops::prim(losses.sum() * scale)
        };
        let constant = |losses: FloatTensor<B>| <Self as burn::tensor::backend::AutodiffBackend>::from_inner(losses);
        match Node.prepare::<C>([x.node.clone(), w.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (losses, gx, gw) = B::token_losses_and_gradients(x.primitive, w.primitive, targets, scale);
                (prep.finish((gx, gw), sum(&losses)), constant(losses))
            }
            OpsKind::UnTracked(prep) => {
                let losses = B::token_losses(x.primitive, w.primitive, targets);
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
