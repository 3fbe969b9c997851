namespace Engine.Lora;
