using System.Text;

namespace Engine.Transformer.Tests.Configuration;

[Trait("Device", "Cpu")]
public class ModelConfigFuzzTests
{
    [Fact]
    public void Damaged_configurations_only_give_the_documented_exception()
    {
        byte[][] valid =
        [
            Encoding.UTF8.GetBytes("""{"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":100,"hidden_size":64,"num_hidden_layers":3,"num_attention_heads":8,"intermediate_size":96,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64},"eos_token_id":[1,2],"torch_dtype":"bfloat16"}"""),
            Encoding.UTF8.GetBytes("""{"model_type":"gpt2","vocab_size":100,"n_embd":64,"n_layer":2,"n_head":4,"n_positions":32,"attn_pdrop":0.1,"activation_function":"gelu_new"}"""),
            Encoding.UTF8.GetBytes("""{"model_type":"qwen2","vocab_size":9,"hidden_size":64,"num_hidden_layers":3,"num_attention_heads":8,"num_key_value_heads":2,"intermediate_size":96,"use_sliding_window":true,"sliding_window":4,"max_window_layers":1}"""),
        ];

        // Document, copy and field readers cost a small multiple of the text. One list is sized by a number alone: the
        // windows of at most 10,000 layers, 40 KB, in the constant.
        int accepted = new Fuzzer(20240613, valid).Run(20_000, bytes => ModelConfig.Parse(bytes), bytesPerByte: 64, constant: 64 << 10);
        Assert.InRange(accepted, 200, 10_000);
    }
}
