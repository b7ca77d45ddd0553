from tests.planning.performance.memory.test_against_the_dry_run import *
SP={"tensor": 2, "sequence_parallel": True}
cells=[(SP|{"recompute":"selective"},QWEN3,{"micro_batch_size":1}),({"tensor":2,"pipeline":2,"data":2,"zero":1,"sequence_parallel":True},{}, {"global_batch_size":16}),(SP|{"recompute":"full"},LLAMA|DROPOUT,{}),
 ({"tensor":2,"pipeline":2,"sequence_parallel":True,"schedule":"zb-h1"},LLAMA,{}),(SP|{"recompute":"full"},OLMO2,{}),(SP,PYTHIA,{}),({"tensor":4,"sequence_parallel":True},QWEN3,{}),(SP,GOPHER|{"num_kv_heads":2},{}),(SP|{"recompute":"selective"},OLMO2,{}),(SP|{"recompute":"selective"},PYTHIA,{}),({"tensor":2,"data":2,"zero":3,"sequence_parallel":True},LLAMA,{})]
for c in cells:
    recipe=small(*c); job=job_of(recipe); st=estimate_memory(job).stages
    out=[st[p].allocated_bytes/peak-1 for p,peak in peaks(recipe, stages=job.layout.pipeline>1).items()]
    print("BAD" if max(map(abs,out))>.02 else "ok ", ["%+.2f%%"%(100*x) for x in out], c, flush=True)
