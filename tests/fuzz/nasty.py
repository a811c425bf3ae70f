"""Values that nobody means: numbers at the ends of their types, texts that lead elsewhere, odd literals."""

NUMBERS = (0, 1, -1, 2, 3, 127, 255, 256, 32767, 65535, 65536, 10**6, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**32,
           2**53, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e-9, 1e30, -1e30, 1e300)
# @IN@ stands for the folder of the inputs, @URL@ for a server that must not be asked.
TEXTS = ("", " ", "\n", "a" * 10_000, "\0", "\x1b[31m", "\ud800", "é", "\u202e", "\uffff", "%s%n%d", "-1", "1e999",
         "nan", "inf", "-inf", "18446744073709551616", "1" * 5000, "0x10", "1,2", "<", "&", "]]>", "\"'", "{}", "[]",
         "true", "..", ".", "/", "*", "**", "?", "~", "$HOME", "../secret.bin", "@IN@/../secret.bin", "/etc/passwd",
         "/dev/zero", "/dev/null", "@IN@/pipe", "@IN@", "/vsicurl/@URL@/a.tif", "@URL@/a.tif", "/vsistdin/",
         "/vsimem/a.tif", "/vsizip/@IN@/a.tif", "/vsisubfile/0_10,@IN@/a.tif", "GTIFF_DIR:1:@IN@/a.tif",
         "PG:dbname=a", "WMS:@URL@", "<VRTDataset/>", "EPSG:4326", "EPSG:0", "IAU_2015:49900", "LOCAL_CS[\"a\"]",
         "uint8", "Byte", "CFloat64", "none")
LITERALS = ("9" * 5000, "-" + "9" * 400, "1e999", "1e-999", "NaN", "-Infinity", "nan", "-inf", "0x" + "f" * 40, "1.",
            "00", "[" * 3000, '{"a":' * 3000, "{a = " * 3000, "1979-05-27T07:32:00Z", "07:32:00",
            '"' + "x" * 100_000 + '"', ".5")
