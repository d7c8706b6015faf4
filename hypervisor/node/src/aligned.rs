//! Memory that a disk reads and writes without a copy (O_DIRECT).

/// What O_DIRECT wants of every disk there is.
pub(crate) const ALIGNMENT: usize = 4096;

pub(crate) struct Buffer {
    memory: Vec<u8>,
    begin: usize,
    size: usize,
}

impl Buffer {
    pub fn of(size: usize) -> Buffer {
        let memory = vec![0; size + ALIGNMENT];
        let begin = memory.as_ptr().align_offset(ALIGNMENT);
        Buffer { memory, begin, size }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned() {
        for size in [512, 4 << 20] {
            let mut buffer = Buffer::of(size);
            assert_eq!((buffer.bytes().as_ptr() as usize % ALIGNMENT, buffer.bytes().len()), (0, size));
        }
    }
}
