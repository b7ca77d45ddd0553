"""Pipeline parallelism: the model cut into stages, and a schedule's action lists run over them.

The lists come from `megalith.schedules` (or a user's file) and are executed by torch.distributed.pipelining, which puts
the sends and receives between them. Its class that runs any list, and the parts of a stage that are changed here, are
private in torch 2.13, which is pinned for that.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining._utils import InferenceMode, _make_tensor_from_meta
from torch.distributed.pipelining.schedules import (
    _Action,
    _add_reduce_grad,
    _add_send_recv,
    _add_unshard_reshard,
    _PipelineScheduleRuntime,
)
from torch.distributed.pipelining.stage import _RecvInfo

from megalith.model import Transformer
from megalith.schedules import Lists, layers_of_stages


def keep_stage(model: Transformer, stage: int, stages: int) -> None:
    """Leave `model` only what this stage computes; the parts that are left keep their names.

    A last stage whose logits share the token embedding keeps a copy of it.
    """
    own = layers_of_stages(model.config, stages)[stage]
    for number in list(model.layers):
        if int(number) not in own:
            del model.layers[number]
    model.is_first_stage, model.is_last_stage = stage == 0, stage == stages - 1
    goes = []
    if not model.is_first_stage:
        goes += ["position_embedding", "embedding_norm", "token_type_embedding"]
        if not (model.is_last_stage and model.config.tie_embeddings):
            goes.append("token_embedding")
    if not model.is_last_stage:
        goes += ["final_norm", "output", "heads"]
    for name in goes:
        if hasattr(model, name):
            delattr(model, name)


def meet_neighbours(mesh: DeviceMesh, device: torch.device) -> None:
    """Exchange a number with the ranks of the stages before and after: every rank calls it.

    NCCL connects a pair when it first sends, which both must do at the same time; schedules send in many orders.
    """
    group, own, count = mesh.get_group(), mesh.get_local_rank(), mesh.size()
    outbox = torch.zeros(1, device=device)
    operations = []
    for way in (1, -1):
        to, source = (dist.get_global_rank(group, (own + step) % count) for step in (way, -way))
        operations.append(dist.P2POp(dist.isend, outbox, to, group))
        operations.append(dist.P2POp(dist.irecv, torch.empty_like(outbox), source, group))
    for work in dist.batch_isend_irecv(operations):
        work.wait()


GATHERED = 3  # of a rank's stages at once under ZeRO-3: one in its forward pass, one in its backward, one to come


class Pipeline:
    """The stages of one rank, and the schedules that have been run over them."""

    def __init__(
        self, stages: Mapping[int, Transformer], count: int, mesh: DeviceMesh, device: torch.device, zero: int
    ) -> None:
        """`stages` are this rank's by number, of `count` in all; `mesh` has the pipeline's ranks.

        ZeRO-1 and 2 (`zero`) gather a stage's weights once a step, and ZeRO-3 anew when other stages have come between.
        """
        self._modules, self._count = dict(stages), count
        self._mesh, self._device = mesh, device
        self._gathered = min(GATHERED, len(stages)) if zero == 3 else len(stages)
        if len(stages) > 1:
            for stage in stages.values():
                _let_reductions_wait(stage)
        meet_neighbours(mesh, device)
        self._made: dict[tuple[Any, ...], _Schedule] = {}

    def run(
        self,
        lists: Lists,
        inputs: Sequence[Tensor],
        rest: Sequence[Mapping[str, Tensor]],
        stream: tuple[int, ...],
        weights: Tensor | None,
    ) -> Tensor | None:
        """Run the lists over all micro-batches; gives the summed losses where the last stage is, else None.

        `inputs` are token ids (B, T), `rest` what every stage is given by name; `stream` is the shape of what goes from
        stage to stage. With `weights`, one for each kind of loss, the lists have backward actions.
        """
        key = (lists, len(inputs), tuple(inputs[0].shape), stream, weights is None)
        if key not in self._made:
            self._made[key] = self._make(lists, len(inputs), inputs[0], stream, training=weights is not None)
        schedule = self._made[key]
        schedule.weights = weights
        return schedule.run(inputs, rest)

    def _make(
        self, lists: Lists, micro_batches: int, tokens: Tensor, stream: tuple[int, ...], *, training: bool
    ) -> "_Schedule":
        group = self._mesh.get_group()
        stages = []
        for number, module in self._modules.items():
            between = torch.empty(stream, dtype=module.activation_dtype, device="meta", requires_grad=training)
            ids = torch.empty(tokens.shape, dtype=tokens.dtype, device="meta")
            losses = torch.empty(len(module.losses), dtype=torch.float64, device="meta", requires_grad=training)
            stages.append(
                _Stage(
                    module,
                    number,
                    self._count,
                    self._device,
                    input_args=ids if module.is_first_stage else between,
                    output_args=losses if module.is_last_stage else between,
                    group=group,
                )
            )
        return _Schedule(stages, micro_batches, lists, self._gathered, training=training)


class _Schedule(_PipelineScheduleRuntime):
    """torch's runner of action lists, of which the shapes are known and the losses are sums."""

    def __init__(
        self, stages: "list[_Stage]", micro_batches: int, lists: Lists, gathered: int, *, training: bool
    ) -> None:
        self.weights: Tensor | None = None
        loss_fn = self._weigh if training else None
        super().__init__(stages, micro_batches, loss_fn=loss_fn, scale_grads=False)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        actions = {rank: [_Action.from_str(str(action)) for action in own] for rank, own in enumerate(lists)}
        if training:
            self._validate_and_set_stage_mapping(actions)
        # as torch's `_prepare_schedule_with_comms`, which has three stages gathered at once whatever ZeRO is
        whole: dict[int, Any] = {rank: _add_unshard_reshard(own, gathered) for rank, own in actions.items()}
        if training:
            whole = {rank: _add_reduce_grad(own, micro_batches) for rank, own in whole.items()}
        holder = self.stage_index_to_group_rank
        self.pipeline_order_with_comms = _add_send_recv(whole, lambda stage: holder[stage], self._num_stages)

    def run(self, inputs: Sequence[Tensor], rest: Sequence[Mapping[str, Tensor]]) -> Tensor | None:
        for stage in self._stages:
            stage.has_backward = self._has_backward
            stage.clear_runtime_states()
        self._sums: list[Tensor] = []
        ends = next((stage for stage in self._stages if stage.is_last), None)
        arguments = [(each,) for each in inputs]
        keywords = [dict(each) for each in rest]
        self._step_microbatches(arguments, keywords, list(inputs), [] if self._has_backward else None)
        if self._has_backward:
            for stage in self._stages:
                assert isinstance(stage, _Stage)
                stage.wait_for_reductions()
        if ends is None:
            return None
        sums: list[Tensor] = [each.detach() for each in ends.output_chunks]
        return torch.stack(sums).sum(0)

    def _weigh(self, losses: Tensor, target: Tensor) -> Tensor:
        assert self.weights is not None
        return (losses * self.weights).sum()

    def _maybe_get_loss(self, stage: Any, mb_index: int) -> Tensor | None:
        """Its graph ends with its backward pass; else it would keep what the last stage received for the whole step."""
        loss: Tensor | None = super()._maybe_get_loss(stage, mb_index)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if loss is not None:
            self._internal_losses[mb_index] = loss.detach()
        return loss

    def _warmup_p2p(self, stages: Any, has_backward: bool, p2p_done: bool) -> None:
        """All shapes are given, so there is nothing to agree on."""
        for stage in stages:
            stage._inference_mode = InferenceMode.STATIC


class _Stage(PipelineStage):
    """A stage whose receive buffers live from the receive to the use, not for the whole run.

    (torch makes one for each micro-batch of a step before it begins: at 160 micro-batches more than the model.)
    """

    def _setup_forward_recv_info(self, num_microbatches: int, has_backward: bool) -> None:
        super()._setup_forward_recv_info(1, has_backward)
        template = self.args_recv_info[0]
        self.args_recv_info = {number: _without_buffers(template) for number in range(num_microbatches)}

    def _setup_backward_recv_info(self, num_microbatches: int) -> None:
        super()._setup_backward_recv_info(1)
        template = self.grad_recv_info[0]
        self.chunks = num_microbatches
        self.grad_recv_info = {number: _without_buffers(template) for number in range(num_microbatches)}

    def _get_recv_ops(self, recv_infos: tuple[_RecvInfo, ...]) -> Any:
        for info in recv_infos:
            if not info.is_root_arg and info.tensor_meta is not None:
                info.buffer = _make_tensor_from_meta(info.tensor_meta, self.device)
        return super()._get_recv_ops(recv_infos)

    def _retrieve_recv_activations(self, fwd_chunk_id: int) -> Any:
        return _used(super()._retrieve_recv_activations(fwd_chunk_id), self.args_recv_info[fwd_chunk_id])

    def _retrieve_recv_grads(self, bwd_chunk_id: int) -> Any:
        return _used(super()._retrieve_recv_grads(bwd_chunk_id), self.grad_recv_info[bwd_chunk_id])

    def backward_one_chunk(
        self, bwd_chunk_id: int, loss: Tensor | None = None, full_backward: bool = True, last_backward: bool = False
    ) -> None:
        """torch looks for the parameters in the graph, which has the whole ones: ZeRO-3 must have gathered them."""
        if not full_backward:
            _gather_parameters(self.submod)
        super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        """torch puts these gradients in place and tells nobody, so that they would add up in the model's own type."""
        _gather_parameters(self.submod)
        super().backward_weight_one_chunk(bwd_chunk_id, last_backward)
        _take_up_gradients(self.submod)

    def perform_reduce_grad(self, grad_scale_factor: int) -> None:
        """Send FSDP2's sums of this stage's gradients; torch would wait for them before the rank's other stages go on.

        `wait_for_reductions` is to follow, at the end of the step.
        """
        if isinstance(self.submod, FSDPModule):
            self.submod.set_reshard_after_backward(True)
            self.submod.set_requires_gradient_sync(True)
            for group in _fsdp_groups(self.submod):
                group.post_backward()

    def wait_for_reductions(self) -> None:
        """Have the device's current stream wait for what `perform_reduce_grad` has sent, and free its buffers."""
        if isinstance(self.submod, FSDPModule):
            self.submod.set_is_last_backward(True)
            self.submod._get_fsdp_state()._root_post_backward_final_callback()


def _fsdp_groups(stage: nn.Module) -> Iterator[Any]:
    """FSDP2's units of parameters that are gathered and reduced together."""
    for module in stage.modules():
        if isinstance(module, FSDPModule):
            yield from module._get_fsdp_state()._fsdp_param_groups


def _let_reductions_wait(stage: nn.Module) -> None:
    """Let a stage's reductions all be under way at once: by FSDP2's default each waits for the one before it.

    Their buffers take the place of the gradients that they are made of.
    """
    if isinstance(stage, FSDPModule):
        stage.set_reduce_scatter_max_input_buffers(sum(isinstance(each, FSDPModule) for each in stage.modules()))


def _gather_parameters(stage: nn.Module) -> None:
    """Have FSDP2 show whole parameters, not shards."""
    for module in stage.modules():
        if isinstance(module, FSDPModule):
            module.unshard()


def _take_up_gradients(stage: nn.Module) -> None:
    """Do what follows the accumulation of a gradient: our hooks, or FSDP2's addition in the wider type."""
    for group in _fsdp_groups(stage):
        group.post_backward()
    for parameter in stage.parameters():
        hooks = getattr(parameter, "_post_accumulate_grad_hooks", None)
        if parameter.grad is not None and hooks:
            for hook in hooks.values():
                hook(parameter)


def _without_buffers(template: tuple[_RecvInfo, ...]) -> tuple[_RecvInfo, ...]:
    return tuple(
        _RecvInfo(
            input_name=info.input_name,
            source=info.source,
            buffer=None,
            tensor_meta=info.tensor_meta,
            is_root_arg=info.is_root_arg,
        )
        for info in template
    )


def _used(tensors: Any, infos: tuple[_RecvInfo, ...]) -> Any:
    for info in infos:
        info.buffer = None
    return tensors
