{
  # One static library per instruction set, each with its own flags, so that no other file may use those instructions.
  # No -march=native (the binary may travel) and no -ffast-math or contraction (results are exact and NaN is meant).
  "target_defaults": {
    "cflags": ["-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"],
    "cflags_cc": ["-std=c++17"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "GCC_OPTIMIZATION_LEVEL": "3",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
      "MACOSX_DEPLOYMENT_TARGET": "11.0",
      "OTHER_CFLAGS": ["-ffp-contract=off", "-fno-math-errno"],
    },
  },
  "targets": [
    {
      "target_name": "dejavu",
      "sources": [
        "native/addon.cc",
        "native/blocked.cc",
        "native/cache-ops.cc",
        "native/feed-forward.cc",
        "native/gemm.cc",
        "native/group.cc",
        "native/isa/cpu.cc",
        "native/map.cc",
        "native/matrix-ops.cc",
        "native/pages.cc",
        "native/pool.cc",
        "native/probe.cc",
        "native/queue.cc",
        "native/recovery.cc",
        "native/row-ops.cc",
        "native/weight-rows.cc",
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags_cc": ["-fexceptions"],
      "cflags_cc!": ["-fno-exceptions"],
      "xcode_settings": {"GCC_ENABLE_CPP_EXCEPTIONS": "YES"},
      "dependencies": ["portable"],
      "conditions": [
        ["target_arch=='x64'", {"dependencies": ["avx2", "avx512", "avx512vnni", "amx"]}],
        ["target_arch=='arm64'", {"dependencies": ["neon"]}],
      ],
    },
    {
      "target_name": "portable",
      "type": "static_library",
      "sources": ["native/isa/portable.cc"],
    },
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "avx2",
          "type": "static_library",
          "sources": ["native/isa/avx2.cc"],
          "cflags": ["-mavx2", "-mfma", "-mf16c"],
          "xcode_settings": {"OTHER_CFLAGS": ["-mavx2", "-mfma", "-mf16c"]},
        },
        {
          "target_name": "avx512",
          "type": "static_library",
          "sources": ["native/isa/avx512.cc"],
          # The compiler's own AVX-512 header starts some values undefined, and GCC 12 warns of each.
          "cflags": [
            "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c",
            "-Wno-uninitialized", "-Wno-maybe-uninitialized",
          ],
          "xcode_settings": {
            "OTHER_CFLAGS": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c"],
          },
        },
        {
          "target_name": "avx512vnni",
          "type": "static_library",
          "sources": ["native/isa/avx512bf16.cc", "native/isa/avx512vnni.cc"],
          "cflags": [
            "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512bf16",
            "-mavx2", "-mfma", "-mf16c", "-Wno-uninitialized", "-Wno-maybe-uninitialized",
          ],
          "xcode_settings": {
            "OTHER_CFLAGS": [
              "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512bf16",
              "-mavx2", "-mfma", "-mf16c",
            ],
          },
        },
        {
          "target_name": "amx",
          "type": "static_library",
          "sources": ["native/isa/amx.cc"],
          "cflags": [
            "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16", "-mavx2", "-mfma", "-mf16c",
            "-mamx-tile", "-mamx-bf16",
            "-Wno-uninitialized", "-Wno-maybe-uninitialized",
          ],
          "xcode_settings": {
            "OTHER_CFLAGS": [
              "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16", "-mavx2", "-mfma", "-mf16c",
              "-mamx-tile", "-mamx-bf16",
            ],
          },
        },
      ],
    }],
    ["target_arch=='arm64'", {
      "targets": [
        {
          "target_name": "neon",
          "type": "static_library",
          "sources": ["native/isa/neon.cc"],
        },
      ],
    }],
  ],
}
