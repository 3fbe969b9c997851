namespace Engine.Cli;

/// <summary>Compares names so that numbers in them count: layer 2 before layer 10.</summary>
internal sealed class NaturalOrder : IComparer<string>
{
    public static NaturalOrder Instance { get; } = new();

    public int Compare(string? x, string? y)
    {
        ReadOnlySpan<char> a = x;
        ReadOnlySpan<char> b = y;
        while (a.Length > 0 && b.Length > 0)
        {
            int digitsA = Digits(a);
            int digitsB = Digits(b);
            if (digitsA == 0 || digitsB == 0)
            {
                if (a[0] != b[0])
                {
                    return a[0].CompareTo(b[0]);
                }

                a = a[1..];
                b = b[1..];
                continue;
            }

            ReadOnlySpan<char> numberA = a[..digitsA].TrimStart('0');
            ReadOnlySpan<char> numberB = b[..digitsB].TrimStart('0');
            int order = numberA.Length != numberB.Length ? numberA.Length.CompareTo(numberB.Length) : numberA.SequenceCompareTo(numberB);
            if (order != 0)
            {
                return order;
            }

            a = a[digitsA..];
            b = b[digitsB..];
        }

        return a.Length.CompareTo(b.Length);
    }

    private static int Digits(ReadOnlySpan<char> text)
    {
        int end = text.IndexOfAnyExceptInRange('0', '9');
        return end < 0 ? text.Length : end;
    }
}
