using Engine.Cli;

using var interrupts = new Interrupts();
return EngineCommand.Run(args, CommandConsole.System(interrupts));
