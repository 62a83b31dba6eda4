import { defineConfig } from 'vitest/config'

export default defineConfig({
  cacheDir: '.cache/vite',
  test: {
    include: ['test/**/*.test.ts'],
    // Fails a file that leaves a timer, socket or server behind.
    setupFiles: ['test/support/leaks.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    // Many tests wait for other processes: two workers keep two cores busy for two thirds of the time.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    restoreMocks: true,
    // As long as until() waits: one second is too short when everything else runs beside.
    expect: { poll: { timeout: 15_000 } },
    // 700 files otherwise, which every test file would load one by one.
    deps: { optimizer: { ssr: { enabled: true, include: ['typebox', 'typebox/value'] } } },
  },
})
