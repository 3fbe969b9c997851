using System.Text;

namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public sealed class AtomicFileTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void A_file_appears_with_its_content_and_nothing_beside_it()
    {
        string path = _directory.File("a.bin");
        AtomicFile.Write(path, stream =>
        {
            stream.Write([1, 2, 3]);
            Assert.False(File.Exists(path));
            stream.Position = 0;
            stream.WriteByte(9);
        });
        Assert.Equal([9, 2, 3], File.ReadAllBytes(path));
        Assert.Equal([path], Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void The_old_content_stays_until_the_new_is_whole()
    {
        string path = _directory.Write("a.txt", "a longer old content");
        AtomicFile.Write(path, stream =>
        {
            stream.Write("new"u8);
            stream.Flush();
            Assert.Equal("a longer old content", File.ReadAllText(path));
        });
        Assert.Equal("new", File.ReadAllText(path));
        Assert.Single(Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Text_is_utf8_without_a_mark()
    {
        string path = _directory.File("a.txt");
        AtomicFile.WriteAllText(path, "é\n");
        Assert.Equal(Encoding.UTF8.GetBytes("é\n"), File.ReadAllBytes(path));
        AtomicFile.WriteAllText(path, "");
        Assert.Equal(0, new FileInfo(path).Length);
    }

    [Fact]
    public void Missing_directories_are_made()
    {
        string path = _directory.File(Path.Combine("one", "two", "a.txt"));
        AtomicFile.WriteAllText(path, "x");
        Assert.Equal("x", File.ReadAllText(path));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_exception_of_the_writer_passes_through_and_leaves_things_as_they_were(bool exists)
    {
        string path = _directory.File("a.txt");
        if (exists)
        {
            File.WriteAllText(path, "old");
        }

        var thrown = new FormatException("not the file's fault");
        Assert.Same(thrown, Assert.Throws<FormatException>(() => AtomicFile.Write(path, stream =>
        {
            stream.Write(new byte[100_000]);
            throw thrown;
        })));
        AssertUnchanged(path, exists);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_full_disk_is_named_and_leaves_things_as_they_were(bool exists)
    {
        string path = _directory.File("a.txt");
        if (exists)
        {
            File.WriteAllText(path, "old");
        }

        var full = new IOException("No space left on device");
        var error = Assert.Throws<EngineDataException>(() => AtomicFile.Write(path, stream =>
        {
            stream.Write(new byte[100_000]);
            throw full;
        }));
        Assert.Contains(path, error.Message);
        Assert.Contains("No space left on device", error.Message);
        Assert.Same(full, error.InnerException);
        AssertUnchanged(path, exists);
    }

    [Fact]
    public void A_place_below_a_file_is_named()
    {
        string file = _directory.Write("file", "x");
        string path = Path.Combine(file, "a.txt");
        Assert.Contains(path, Assert.Throws<EngineDataException>(() => AtomicFile.WriteAllText(path, "y")).Message);
        Assert.Equal("x", File.ReadAllText(file));
        Assert.Single(Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void A_directory_is_not_replaced()
    {
        string path = _directory.File("sub");
        Directory.CreateDirectory(path);
        Assert.Contains(path, Assert.Throws<EngineDataException>(() => AtomicFile.WriteAllText(path, "y")).Message);
        Assert.True(Directory.Exists(path));
        Assert.Equal([path], Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void A_path_without_a_file_name_is_refused()
    {
        Assert.Throws<EngineDataException>(() => AtomicFile.WriteAllText("", "y"));
        Assert.Throws<EngineDataException>(() => AtomicFile.WriteAllText(_directory.Path + Path.DirectorySeparatorChar, "y"));
        Assert.Throws<EngineDataException>(() => AtomicFile.WriteAllText(Path.GetPathRoot(_directory.Path)!, "y"));
        Assert.Throws<ArgumentNullException>(() => AtomicFile.Write(_directory.File("a"), null!));
        Assert.Empty(Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void A_name_too_long_is_an_error_of_the_place()
    {
        string path = _directory.File(new string('n', 400));
        Assert.Throws<EngineDataException>(() => AtomicFile.WriteAllText(path, "y"));
        Assert.Empty(Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Writers_of_one_target_do_not_disturb_one_another()
    {
        string path = _directory.File("a.bin");
        Parallel.For(0, 20, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i =>
            AtomicFile.Write(path, stream => stream.Write(Enumerable.Repeat((byte)i, 10_000).ToArray())));
        byte[] content = File.ReadAllBytes(path);
        Assert.Equal(10_000, content.Length);
        Assert.Single(content.Distinct());
        Assert.Single(Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void An_inner_write_to_the_same_target_is_overtaken_by_the_outer()
    {
        string path = _directory.File("a.txt");
        AtomicFile.Write(path, stream =>
        {
            AtomicFile.WriteAllText(path, "inner");
            stream.Write("outer"u8);
        });
        Assert.Equal("outer", File.ReadAllText(path));
        Assert.Single(Directory.GetFileSystemEntries(_directory.Path));
    }

    private void AssertUnchanged(string path, bool exists)
    {
        if (exists)
        {
            Assert.Equal("old", File.ReadAllText(path));
            Assert.Equal([path], Directory.GetFileSystemEntries(_directory.Path));
        }
        else
        {
            Assert.Empty(Directory.GetFileSystemEntries(_directory.Path));
        }
    }
}
