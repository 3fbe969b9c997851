using System.Runtime.InteropServices;
using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>A kernel of the tests' own, y[i] = x[i] + 1 for i32, written in PTX so that these tests need no kernel image.</summary>
internal sealed class Increment : IDisposable
{
    public const string Entry = "increment";

    private const int Threads = 128;

    private const string Source = """
        .version 7.0
        .target sm_80
        .address_size 64

        .visible .const .align 4 .u32 increment_params = 24;

        .visible .entry increment(.param .align 8 .b8 parameters[24])
        {
            .reg .pred %outside;
            .reg .b32 %r<5>;
            .reg .b64 %a<3>;
            ld.param.u64 %a0, [parameters];
            ld.param.u64 %a1, [parameters+8];
            ld.param.u32 %r0, [parameters+16];
            mov.u32 %r1, %ctaid.x;
            mov.u32 %r2, %ntid.x;
            mov.u32 %r3, %tid.x;
            mad.lo.u32 %r1, %r1, %r2, %r3;
            setp.ge.u32 %outside, %r1, %r0;
            @%outside bra done;
            cvta.to.global.u64 %a0, %a0;
            cvta.to.global.u64 %a1, %a1;
            mul.wide.u32 %a2, %r1, 4;
            add.u64 %a0, %a0, %a2;
            add.u64 %a1, %a1, %a2;
            ld.global.u32 %r4, [%a0];
            add.u32 %r4, %r4, 1;
            st.global.u32 [%a1], %r4;
        done:
            ret;
        }
        """;

    private readonly CudaDevice _device;

    public Increment(CudaDevice device)
    {
        _device = device;
        device.Context.MakeCurrent();
        Module = new CudaModule(System.Text.Encoding.ASCII.GetBytes(Source + '\0'), "increment.ptx");
        Kernel = Module.Kernel(Entry);
    }

    public CudaModule Module { get; }

    public CudaKernel Kernel { get; }

    /// <summary>Queues y = x + 1.</summary>
    public void Run(Tensor x, Tensor y, KernelWork work = default) => Launch(x.Pointer, y.Pointer, (int)x.Elements, Threads, work);

    /// <summary>Queues the kernel with what it is given, right or wrong.</summary>
    public void Launch(nint x, nint y, int count, uint threads, KernelWork work = default) => Kernel.Launch(
        _device,
        LaunchShape.Blocks((count + (long)threads - 1) / threads, threads),
        new Parameters { X = x, Y = y, Count = count },
        work);

    public void Dispose()
    {
        _device.Synchronize();
        Module.Dispose();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Parameters
    {
        public nint X;
        public nint Y;
        public int Count;
    }
}
