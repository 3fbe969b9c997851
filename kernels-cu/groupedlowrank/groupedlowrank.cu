// The low-rank path of a batch whose rows use different adapters: sgmv of Chen et al., Punica (MLSys 2024), with the rows sorted
// on the device, mixed ranks, and the gradients.
#include "pack.cuh"
#include "plan.cuh"
#include "shrink.cuh"
#include "expand.cuh"
#include "forward.cuh"
#include "forward_r16.cuh"
#include "backward.cuh"
